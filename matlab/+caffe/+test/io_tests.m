function tests = io_tests()
% IO_TESTS  Tests of caffe.io: names and functions.
tests = {'io: a color image', @color; 'io: a gray image', @gray; 'io: a mean image', @mean_image};
end

function color()
name = [tempname() '.png'];
cleanup = onCleanup(@() delete(name));
image = uint8(reshape(0:3 * 4 * 3 - 1, 3, 4, 3));  % height 3, width 4, RGB
imwrite(image, name);
loaded = caffe.io.load_image(name);
caffe.internal.check(isa(loaded, 'single'), 'it is single');
caffe.internal.check(isequal(size(loaded), [4, 3, 3]), 'it is width x height x channels');
caffe.internal.check(isequal(loaded(:, :, 1), single(image(:, :, 3)')), 'blue comes first');
end

function gray()
name = [tempname() '.png'];
cleanup = onCleanup(@() delete(name));
image = uint8(10 * (1:4)' * (1:5));
imwrite(image, name);
loaded = caffe.io.load_image(name);
caffe.internal.check(isequal(loaded, single(image')), 'it is width x height');
end

function mean_image()
name = [tempname() '.binaryproto'];
cleanup = onCleanup(@() delete(name));
values = single(rand(5, 4, 3));
caffe.io.write_mean(values, name);
caffe.internal.check(isequal(caffe.io.read_mean(name), values), 'what is read is what was written');
caffe.internal.expect_error(@() caffe.io.write_mean(double(values), name), 'caffe:UsageError', ...
  'single');
caffe.internal.expect_error(@() caffe.io.read_mean('none.binaryproto'), 'caffe:FileError', ...
  'none.binaryproto');
end
