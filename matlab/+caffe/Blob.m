classdef Blob < handle
% BLOB  An array of a net: data and its gradient (diff), both of class single.
%   Sizes are reversed against Caffe: a blob N x C x H x W is W x H x C x N here.
properties (Access = private)
  hBlob_self
end

methods
  function self = Blob(hBlob)
    % A blob from its handle; nets and layers make them.
    self.hBlob_self = hBlob;
  end

  function size_ = shape(self)
    % The size as a row, without the axes that MATLAB adds.
    size_ = caffe.internal.gateway('blob_get_shape', self.hBlob_self);
  end

  function reshape(self, size_)
    % Give the blob another size, a row; call the net's reshape afterwards.
    if ~isnumeric(size_) || (~isempty(size_) && ~isrow(size_))
      error('caffe:UsageError', 'the size of a blob is a row of numbers.');
    end
    caffe.internal.gateway('blob_reshape', self.hBlob_self, double(size_(:)'));
  end

  function data = get_data(self)
    % The values.
    data = caffe.internal.gateway('blob_get_data', self.hBlob_self);
  end

  function set_data(self, data)
    % Replace the values by an array of the blob's size.
    caffe.internal.gateway('blob_set_data', self.hBlob_self, self.fitting(data, 'data'));
  end

  function diff = get_diff(self)
    % The gradient.
    diff = caffe.internal.gateway('blob_get_diff', self.hBlob_self);
  end

  function set_diff(self, diff)
    % Replace the gradient by an array of the blob's size.
    caffe.internal.gateway('blob_set_diff', self.hBlob_self, self.fitting(diff, 'diff'));
  end
end

methods (Access = private)
  function values = fitting(self, values, what)
    % The values as single, if their size is the blob's but for axes of 1 at the end.
    if ~isnumeric(values) && ~islogical(values)
      error('caffe:UsageError', '%s is an array of numbers, got a value of class %s.', what, ...
        class(values));
    end
    if ~isreal(values)
      error('caffe:UsageError', '%s is an array of real numbers, got complex ones.', what);
    end
    if issparse(values)
      values = full(values);
    end
    wanted = self.shape();
    found = size(values);
    count = max(numel(wanted), numel(found));
    padded = @(row) [row, ones(1, count - numel(row))];
    if ~isequal(padded(wanted), padded(found))
      error('caffe:UsageError', 'the blob has size [%s], got %s of size [%s].', ...
        num2str(wanted), what, num2str(found));
    end
    values = single(values);
  end
end
end
