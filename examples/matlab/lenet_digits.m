% Train LeNet on handwritten digits, watch the loss, and draw its first filters.
%
% Run it in the folder that holds examples/, after "python examples/digits/make_data.py", with
% matlab/ on the path: addpath matlab; run examples/matlab/lenet_digits.m
caffe.set_mode_cpu();
solver = caffe.Solver('examples/digits/lenet_solver.prototxt');
iterations = 500;
every = 25;
losses = [];
accuracies = [];
can_plot = usejava('desktop') || ~isempty(getenv('DISPLAY'));

while solver.iter() < iterations
  solver.step(every);
  losses(end + 1) = solver.net.blobs('loss').get_data();
  test_net = solver.test_nets(1);
  test_net.forward_prefilled();
  accuracies(end + 1) = test_net.blobs('accuracy').get_data();
  fprintf('iteration %d: loss %.3f, accuracy of 60 images %.3f\n', solver.iter(), ...
    losses(end), accuracies(end));
  if can_plot
    at = every * (1:numel(losses));
    plot(at, losses, at, accuracies);
    legend('loss', 'accuracy of 60 test images');
    xlabel('iteration');
    drawnow();
  end
end

% The filters of conv1, 5 x 5 each, five in a row, from black (least) to white (most).
filters = solver.net.params('conv1', 1).get_data();
filters = squeeze((filters - min(filters(:))) / (max(filters(:)) - min(filters(:))));
columns = 5;
rows = ceil(size(filters, 3) / columns);
picture = ones(6 * rows - 1, 6 * columns - 1);
for n = 1:size(filters, 3)
  top = 6 * fix((n - 1) / columns);
  left = 6 * mod(n - 1, columns);
  picture(top + (1:5), left + (1:5)) = filters(:, :, n)';
end
picture = kron(picture, ones(16));
imwrite(picture, 'examples/matlab/conv1.png');
disp('The filters are in examples/matlab/conv1.png.');
solver.net.save('examples/matlab/lenet_digits.caffemodel');
