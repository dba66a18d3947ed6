function init_log(base)
% INIT_LOG  Write the log to a file too, whose name is base and the time.
if ~ischar(base)
  error('caffe:UsageError', 'init_log takes what the name of a log file begins with.');
end
caffe.internal.gateway('init_log', base);
end
