function set_random_seed(seed)
% SET_RANDOM_SEED  Let chance begin anew from this number.
if ~isnumeric(seed) || ~isscalar(seed)
  error('caffe:UsageError', 'set_random_seed takes a number.');
end
caffe.internal.gateway('set_random_seed', double(seed));
end
