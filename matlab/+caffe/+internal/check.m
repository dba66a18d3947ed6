function check(is_true, what)
% CHECK  An error that says what does not hold.
if ~is_true
  error('caffe:TestFailed', 'not so: %s', what);
end
end
