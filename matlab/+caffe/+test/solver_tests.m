function tests = solver_tests()
% SOLVER_TESTS  Tests of caffe.Solver: names and functions.
tests = {'solver: steps', @steps; 'solver: to the end, and on', @solves};
end

function [solver, folder] = small()
% A solver that learns the constant 1, in a folder of its own.
folder = tempname();
mkdir(folder);
net = {
  'layer { name: "data" type: "DummyData" top: "data" top: "label" dummy_data_param {'
  '  shape { dim: 8 dim: 5 } shape { dim: 8 dim: 1 } data_filler { type: "gaussian" }'
  '  data_filler { type: "constant" value: 1 } } }'
  'layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"'
  '  inner_product_param { num_output: 1 weight_filler { type: "xavier" } } }'
  'layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "label" top: "loss" }'};
lines = {
  sprintf('net: "%s"', fullfile(folder, 'net.prototxt'))
  'base_lr: 0.05 lr_policy: "fixed" max_iter: 20 test_iter: 1 test_interval: 10 random_seed: 1'
  sprintf('snapshot: 10 snapshot_prefix: "%s"', fullfile(folder, 'small'))};
write(fullfile(folder, 'net.prototxt'), net);
write(fullfile(folder, 'solver.prototxt'), lines);
solver = caffe.Solver(fullfile(folder, 'solver.prototxt'));
end

function write(name, lines)
file = fopen(name, 'w');
fprintf(file, '%s\n', lines{:});
fclose(file);
end

function remove(folder)
names = dir(folder);
for k = 1:numel(names)
  if ~names(k).isdir
    delete(fullfile(folder, names(k).name));
  end
end
rmdir(folder);
end

function steps()
[solver, folder] = small();
cleanup = onCleanup(@() remove(folder));
check = @caffe.internal.check;
check(solver.iter() == 0, 'it begins at 0');
check(numel(solver.test_nets) == 1, 'a test net');
before = solver.net.params('ip', 1).get_data();
solver.step(5);
check(solver.iter() == 5, 'five iterations');
check(~isequal(before, solver.net.params('ip', 1).get_data()), 'parameters have moved');
check(isequal(solver.net.params('ip', 1).get_data(), ...
  solver.test_nets(1).params('ip', 1).get_data()), 'the test net shares them');
end

function solves()
[solver, folder] = small();
cleanup = onCleanup(@() remove(folder));
solver.solve();
check = @caffe.internal.check;
check(solver.iter() == 20, 'to max_iter');
check(exist(fullfile(folder, 'small_iter_20.caffemodel'), 'file') == 2, 'a snapshot');
solver.restore(fullfile(folder, 'small_iter_10.solverstate'));
check(solver.iter() == 10, 'from a snapshot');
solver.step(1);
check(solver.iter() == 11, 'and on');
caffe.internal.expect_error(@() solver.restore('none.solverstate'), 'caffe:FileError', 'none');
end
