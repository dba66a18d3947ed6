function [scores, maxlabel] = classification_demo(im, use_gpu, model_folder)
% CLASSIFICATION_DEMO  Classify an image by CaffeNet: the mean of ten crops.
%   [scores, maxlabel] = classification_demo(im, use_gpu)
%   im: height x width x 3, RGB, uint8, as imread gives it. scores: 1000 x 1, probabilities.
%   maxlabel: the number of the best class, from 1 (line of data/ilsvrc12/synset_words.txt).
%   model_folder: where deploy.prototxt and the .caffemodel are, of any net that takes 227 x 227
%   crops as CaffeNet does; without it, models/bvlc_reference_caffenet, which
%   "caffe download bvlc_reference_caffenet" fills.
if nargin < 2 || ~use_gpu
  caffe.set_mode_cpu();
else
  caffe.set_mode_gpu();
  caffe.set_device(0);
end
if nargin < 3
  here = fileparts(mfilename('fullpath'));
  model_folder = fullfile(fileparts(fileparts(here)), 'models', 'bvlc_reference_caffenet');
end
weights = dir(fullfile(model_folder, '*.caffemodel'));
if isempty(weights)
  error('caffe:FileError', ['%s has no .caffemodel. Run "caffe download ' ...
    'bvlc_reference_caffenet" in the folder above models/.'], model_folder);
end
net = caffe.Net(fullfile(model_folder, 'deploy.prototxt'), ...
  fullfile(model_folder, weights(1).name), 'test');
if size(net.blobs(net.inputs{1}).shape(), 2) == 4
  net.blobs(net.inputs{1}).reshape([227, 227, 3, 10]);
  net.reshape();
end
scores = net.forward({ten_crops(im)});
scores = mean(reshape(scores{1}, [], 10), 2);
[~, maxlabel] = max(scores);
end

function crops = ten_crops(im)
% The four corners and the middle of the image at 256 x 256 without the mean, then mirrored.
if size(im, 3) == 1
  im = repmat(im, [1, 1, 3]);
end
image = permute(single(im(:, :, [3, 2, 1])), [2, 1, 3]);  % width x height x BGR
image = resized(image, 256) - caffe.ilsvrc_2012_mean();
corner = 256 - 227;
starts = [0, 0; 0, corner; corner, 0; corner, corner; fix(corner / 2), fix(corner / 2)] + 1;
crops = zeros(227, 227, 3, 10, 'single');
for n = 1:5
  crop = image(starts(n, 1) + (0:226), starts(n, 2) + (0:226), :);
  crops(:, :, :, n) = crop;
  crops(:, :, :, n + 5) = crop(end:-1:1, :, :);
end
end

function image = resized(image, side)
% Bilinear, over as many pixels as one pixel of a smaller image covers.
columns = weights_of(size(image, 1), side);
rows = weights_of(size(image, 2), side);
channels = cell(1, size(image, 3));
for c = 1:numel(channels)
  channels{c} = columns * image(:, :, c) * rows';
end
image = cat(3, channels{:});
end

function matrix = weights_of(from, to)
reach = max(1, from / to);
centers = ((1:to)' - 0.5) * from / to + 0.5;
matrix = max(0, 1 - abs(centers - (1:from)) / reach);
matrix = single(matrix ./ sum(matrix, 2));
end
