classdef Layer < handle
% LAYER  A layer of a net: its parameters and its type.
properties (SetAccess = private)
  params  % its parameters: params(n) is a caffe.Blob
end

properties (Access = private)
  hLayer_self
end

methods
  function self = Layer(hLayer)
    % A layer from its handle; nets make them.
    self.hLayer_self = hLayer;
    attributes = caffe.internal.gateway('layer_get_attr', hLayer);
    blobs = cell(1, numel(attributes.hBlob_blobs));
    for n = 1:numel(blobs)
      blobs{n} = caffe.Blob(attributes.hBlob_blobs(n));
    end
    self.params = caffe.internal.row_of(blobs, 'caffe.Blob');
  end

  function name = type(self)
    % The layer's type, as 'Convolution'.
    name = caffe.internal.gateway('layer_get_type', self.hLayer_self);
  end
end
end
