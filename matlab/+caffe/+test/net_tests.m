function tests = net_tests()
% NET_TESTS  Tests of caffe.Net, caffe.Layer and caffe.Blob: names and functions.
tests = {
  'net: its parts', @parts
  'net: sizes of blobs', @sizes
  'net: forward and backward', @passes
  'net: another size', @another_size
  'net: save and copy', @save_and_copy
  'net: two at once', @two_nets
  'net: errors', @errors
  'net: after reset_all', @after_reset};
end

function net = small()
name = caffe.internal.small_net();
cleanup = onCleanup(@() delete(name));
net = caffe.Net(name, 'test');
end

function parts()
net = small();
check = @caffe.internal.check;
check(isequal(net.layer_names, {'data'; 'conv'; 'ip'}), 'layers in order');
check(isequal(net.blob_names, {'data'; 'conv'; 'ip'}), 'blobs in order');
check(isequal(net.inputs, {'data'}) && isequal(net.outputs, {'ip'}), 'inputs and outputs');
check(net.name2layer_index('ip') == 3 && net.name2blob_index('conv') == 2, 'numbers by name');
check(numel(net.layer_vec) == 3 && numel(net.blob_vec) == 3, 'vectors');
check(strcmp(net.layers('conv').type(), 'Convolution'), 'a type by name');
check(strcmp(net.layer_vec(end).type(), 'InnerProduct'), 'a type by number');
check(numel(net.layers('conv').params) == 2 && isempty(net.layers('data').params), 'parameters');
end

function sizes()
net = small();
check = @caffe.internal.check;
check(isequal(net.blobs('data').shape(), [5, 6, 3, 2]), 'sizes are reversed');
check(isequal(net.params('conv', 1).shape(), [3, 3, 3, 4]), 'those of parameters too');
check(isequal(net.params('conv', 2).shape(), 4), 'one axis');
check(isequal(size(net.params('conv', 2).get_data()), [4, 1]), 'one axis is a column');
blob = net.blobs('data');
for count = 0:6
  size_ = 2:count + 1;
  blob.reshape(size_);
  check(isequal(blob.shape(), size_), sprintf('%d axes', count));
  padded = [size_, ones(1, 2 - count)];
  values = single(reshape(1:prod(padded), padded));
  blob.set_data(values);
  check(isequal(blob.get_data(), values), sprintf('values of %d axes', count));
  blob.set_diff(-double(values));
  check(isequal(blob.get_diff(), -values), sprintf('diffs of %d axes', count));
end
end

function passes()
net = small();
check = @caffe.internal.check;
data = rand(5, 6, 3, 2);
results = net.forward({data});
check(iscell(results) && isequal(size(results), [1, 1]), 'a cell of outputs');
check(isequal(size(results{1}), [7, 2]) && isa(results{1}, 'single'), 'the size of the output');
conv = net.blobs('conv').get_data();
weights = reshape(net.params('ip', 1).get_data(), [], 7);
wanted = weights' * reshape(conv, [], 2);
check(max(abs(results{1}(:) - wanted(:))) < 1e-4, 'the output is the product');
diffs = net.backward({ones(7, 2)});
check(isequal(size(diffs{1}), size(data)), 'the size of the diff');
given = net.blobs('conv').get_diff();
check(max(abs(reshape(given(:, :, :, 1), [], 1) - sum(weights, 2))) < 1e-4, 'the diff');
net.params('ip', 1).set_data(zeros(net.params('ip', 1).shape()));
net.blobs('data').set_data(data);
net.forward_prefilled();
check(~any(any(net.blobs('ip').get_data())), 'parameters that were set are used');
end

function another_size()
net = small();
net.blobs('data').reshape([5, 6, 3, 9]);
net.reshape();
caffe.internal.check(isequal(net.blobs('ip').shape(), [7, 9]), 'reshape goes through the net');
results = net.forward({rand(5, 6, 3, 9)});
caffe.internal.check(isequal(size(results{1}), [7, 9]), 'so does forward');
end

function save_and_copy()
first = small();
second = small();
name = [tempname() '.caffemodel'];
cleanup = onCleanup(@() delete(name));
first.save(name);
second.copy_from(name);
data = rand(5, 6, 3, 2);
caffe.internal.check(isequal(first.forward({data}), second.forward({data})), 'equal results');
end

function two_nets()
first = small();
second = small();
data = rand(5, 6, 3, 2);
before = first.forward({data});
second.forward({data + 1});
caffe.internal.check(isequal(before{1}, first.blobs('ip').get_data()), 'they do not touch');
end

function errors()
net = small();
expect = @caffe.internal.expect_error;
name = caffe.internal.small_net();
cleanup = onCleanup(@() delete(name));
expect(@() caffe.Net(name, 'tset'), 'caffe:UsageError', '''train'' or ''test''');
expect(@() caffe.Net('none.prototxt', 'test'), 'caffe:FileError', 'none.prototxt');
expect(@() caffe.Net(name, 'none.caffemodel', 'test'), 'caffe:FileError', 'none.caffemodel');
expect(@() net.forward({}), 'caffe:UsageError', 'got 0 arrays');
expect(@() net.forward(1), 'caffe:UsageError', 'cell array');
expect(@() net.blobs('data').set_data(ones(5, 6, 3)), 'caffe:UsageError', '5  6  3  2');
expect(@() net.blobs('cnov'), 'caffe:NetError', 'Did you mean "conv"?');
expect(@() net.layers('Ip'), 'caffe:NetError', 'Did you mean "ip"?');
expect(@() net.params('conv', 3), 'caffe:NetError', '2 parameters');
results = net.forward({ones(5, 6, 3, 2)});
caffe.internal.check(isequal(size(results{1}), [7, 2]), 'the session goes on');
end

function after_reset()
net = small();
blob = net.blobs('data');
caffe.reset_all();
caffe.internal.expect_error(@() net.forward_prefilled(), 'caffe:UsageError', 'is gone');
caffe.internal.expect_error(@() blob.get_data(), 'caffe:UsageError', 'is gone');
end
