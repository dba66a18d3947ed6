function mean_data = ilsvrc_2012_mean(binaryproto)
% ILSVRC_2012_MEAN  The mean image of ImageNet 2012, 256 x 256 x 3 single, BGR.
%   It is kept in +caffe/imagenet/ilsvrc_2012_mean.mat. The first call makes that file from a
%   .binaryproto: the one given, or data/ilsvrc12/imagenet_mean.binaryproto below the current
%   folder or the one that holds matlab/ ("caffe download ilsvrc12" puts it there).
here = fileparts(mfilename('fullpath'));
kept = fullfile(here, 'imagenet', 'ilsvrc_2012_mean.mat');
if nargin == 0 && exist(kept, 'file') == 2
  loaded = load(kept);
  mean_data = loaded.mean_data;
  return
end
if nargin == 0
  name = fullfile('data', 'ilsvrc12', 'imagenet_mean.binaryproto');
  places = {name, fullfile(fileparts(fileparts(here)), name)};
  found = places(cellfun(@(place) exist(place, 'file') == 2, places));
  if isempty(found)
    error('caffe:FileError', ['the mean of ImageNet is not here: %s is missing. Run "caffe ' ...
      'download ilsvrc12" there, or give the file.'], name);
  end
  binaryproto = found{1};
end
mean_data = caffe.io.read_mean(binaryproto);
folder = fileparts(kept);
if exist(folder, 'dir') ~= 7
  mkdir(folder);
end
save('-v7', kept, 'mean_data');
end
