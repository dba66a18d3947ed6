function name = existing_file(name, what)
% EXISTING_FILE  The name of a file that has to be there.
if ~ischar(name)
  error('caffe:UsageError', 'the %s is the name of a file, got a value of class %s.', what, ...
    class(name));
end
if exist(name, 'file') ~= 2
  error('caffe:FileError', '%s: there is no such file (the %s).', name, what);
end
end
