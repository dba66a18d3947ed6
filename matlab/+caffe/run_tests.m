function failures = run_tests()
% RUN_TESTS  Try this interface: images and means, nets, solvers. Returns how many tests failed.
caffe.set_mode_cpu();
tests = [caffe.test.io_tests(); caffe.test.net_tests(); caffe.test.solver_tests()];
failures = 0;
for k = 1:size(tests, 1)
  caffe.reset_all();
  try
    tests{k, 2}();
    fprintf('ok      %s\n', tests{k, 1});
  catch fault
    failures = failures + 1;
    fprintf('FAILED  %s: %s\n', tests{k, 1}, fault.message);
  end
end
caffe.reset_all();
fprintf('%d passed, %d failed\n', size(tests, 1) - failures, failures);
end
