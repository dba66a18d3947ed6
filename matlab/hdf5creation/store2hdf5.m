function [data_size, label_size] = store2hdf5(filename, data, labels, create, startloc, chunksz)
% STORE2HDF5  Append images and labels to an HDF5 file that a HDF5Data layer reads.
%   [data_size, label_size] = store2hdf5(filename, data, labels, create, startloc, chunksz)
%   data: W x H x C x N. labels: D x N. Both are stored as single, in the datasets /data and /label.
%   create: make the file anew (the default); false appends to it.
%   startloc: a struct with the fields dat and lab: where to begin, as [1, 1, 1, n] and [1, n].
%     Without it a new file begins at its start, and an old one goes on at its end.
%   chunksz: how many items a chunk of the file has (1000).
%   The sizes of both datasets are returned.
if nargin < 4 || isempty(create)
  create = true;
end
if nargin < 6 || isempty(chunksz)
  chunksz = 1000;
end
data_axes = max(ndims(data), 4);
count = size(data, data_axes);
if size(labels, 2) ~= count || ndims(labels) > 2
  error('caffe:UsageError', 'there are %d items but labels of size [%s]: give one column each.', ...
    count, num2str(size(labels)));
end
if create && exist(filename, 'file') == 2
  fprintf('store2hdf5: %s is replaced.\n', filename);
  delete(filename);
end
if nargin >= 5 && ~isempty(startloc)
  first = [startloc.dat(end), startloc.lab(end)] - 1;
else
  first = [-1, -1];
end
data_size = store(filename, '/data', data, data_axes, first(1), chunksz);
label_size = store(filename, '/label', labels, 2, first(2), chunksz);
end

function stored_size = store(filename, dataset, values, axes_count, first, chunksz)
item = size(values);
item = [item, ones(1, axes_count - numel(item))];
stored_size = caffe.internal.gateway('hdf5_store', filename, dataset, single(values(:)'), ...
  item, first, chunksz);
end
