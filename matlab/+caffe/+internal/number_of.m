function index = number_of(map, name, kind)
% NUMBER_OF  The number of a layer or blob by its name.
if ~ischar(name)
  error('caffe:UsageError', 'the name of a %s is a text, got a value of class %s.', kind, class(name));
end
if ~isKey(map, name)
  error('caffe:NetError', 'no %s is named "%s". %s', kind, name, ...
    caffe.internal.gateway('did_you_mean', name, keys(map)));
end
index = map(name);
end
