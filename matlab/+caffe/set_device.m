function set_device(number)
% SET_DEVICE  Choose the GPU by its number, from 0.
if ~isnumeric(number) || ~isscalar(number)
  error('caffe:UsageError', 'set_device takes the number of a GPU.');
end
caffe.internal.gateway('set_device', double(number));
end
