classdef Net < handle
% NET  A net: its layers, blobs and parameters, forward and backward passes.
%   net = caffe.Net(model, phase) or caffe.Net(model, weights, phase): files, and 'train' or 'test'.
properties (SetAccess = private)
  layer_vec         % layers: layer_vec(n) is a caffe.Layer
  blob_vec          % blobs: blob_vec(n) is a caffe.Blob
  inputs            % names of the blobs that you fill, a cell column
  outputs           % names of the blobs that no layer reads, a cell column
  name2layer_index  % a Map from a layer's name to its number
  name2blob_index   % a Map from a blob's name to its number
  layer_names       % a cell column
  blob_names        % a cell column
end

properties (Access = private)
  hNet_self
end

methods
  function self = Net(varargin)
    if numel(varargin) == 1 && isstruct(varargin{1})
      self.hNet_self = varargin{1};  % of a solver
    elseif numel(varargin) == 2 || numel(varargin) == 3
      phase = varargin{end};
      if ~ischar(phase) || ~any(strcmp(phase, {'train', 'test'}))
        error('caffe:UsageError', 'the phase is ''train'' or ''test'', the last argument.');
      end
      model = caffe.internal.existing_file(varargin{1}, 'model');
      if numel(varargin) == 3
        weights = caffe.internal.existing_file(varargin{2}, 'weights');
      end
      self.hNet_self = caffe.internal.gateway('get_net', model, phase);
    else
      error('caffe:UsageError', ...
        'caffe.Net takes (model, phase) or (model, weights, phase), got %d arguments.', ...
        numel(varargin));
    end
    self.describe();
    if numel(varargin) == 3
      self.copy_from(weights);
    end
  end

  function delete(self)
    % Free the net. A net that reset_all or a solver has freed is none.
    try
      caffe.internal.gateway('delete_net', self.hNet_self);
    catch
    end
  end

  function layer = layers(self, name)
    % A layer by its name.
    layer = self.layer_vec(caffe.internal.number_of(self.name2layer_index, name, 'layer'));
  end

  function blob = blobs(self, name)
    % A blob by its name.
    blob = self.blob_vec(caffe.internal.number_of(self.name2blob_index, name, 'blob'));
  end

  function blob = params(self, layer_name, index)
    % Parameter index, from 1, of a layer.
    layer = self.layers(layer_name);
    count = numel(layer.params);
    if ~isnumeric(index) || ~isscalar(index) || index < 1 || index > count || index ~= fix(index)
      error('caffe:NetError', 'layer "%s" has %d parameters, so there is none with index %s.', ...
        layer_name, count, num2str(index));
    end
    blob = layer.params(index);
  end

  function results = forward(self, data)
    % Fill the inputs with the arrays of a cell array ([] leaves one as it is), run all layers,
    % return the outputs in one.
    self.fill(data, self.inputs, 'input', 'set_data');
    self.forward_prefilled();
    results = self.read(self.outputs, 'get_data');
  end

  function results = backward(self, diffs)
    % Fill the outputs' diffs, run all layers backward, return the inputs' diffs.
    self.fill(diffs, self.outputs, 'output diff', 'set_diff');
    self.backward_prefilled();
    results = self.read(self.inputs, 'get_diff');
  end

  function forward_prefilled(self)
    % Run all layers on what the inputs hold.
    caffe.internal.gateway('net_forward', self.hNet_self);
  end

  function backward_prefilled(self)
    % Run all layers backward from the diffs that the outputs hold.
    caffe.internal.gateway('net_backward', self.hNet_self);
  end

  function copy_from(self, weights)
    % Copy parameters from a .caffemodel, by layer name.
    weights = caffe.internal.existing_file(weights, 'weights');
    caffe.internal.gateway('net_copy_from', self.hNet_self, weights);
  end

  % --- of the matcaffe of Faster R-CNN and R-FCN

  function set_phase(self, phase)
    % Let a net that was made for training run as in a test, 'test', or train again, 'train'.
    caffe.internal.gateway('net_set_phase', self.hNet_self, phase);
  end

  function share_weights_with(self, other)
    % Use another net's parameters, by layer name.
    caffe.internal.gateway('net_share_trained_layers_with', self.hNet_self, other.hNet_self);
  end

  function set_input_data(self, data)
    % Fill the inputs with the arrays of a cell array.
    self.fill(data, self.inputs, 'input', 'set_data');
  end

  function reshape_as_input(self, data)
    % Give the inputs the sizes of the arrays of a cell array; [] leaves an input as it is.
    for n = self.filled(data, self.inputs, 'input')
      sizes = size(data{n});
      self.blobs(self.inputs{n}).reshape([sizes, ones(1, 4 - numel(sizes))]);
    end
    self.reshape();
  end

  function results = get_output(self)
    % The outputs as a struct array with the fields blob_name and data.
    results = struct('blob_name', self.outputs', 'data', self.read(self.outputs, 'get_data')');
  end

  function set_params_data(self, layer_name, index, data)
    % Fill parameter index, from 1, of a layer.
    self.params(layer_name, index).set_data(data);
  end

  function reshape(self)
    % Carry the sizes of the inputs through the net.
    caffe.internal.gateway('net_reshape', self.hNet_self);
  end

  function save(self, weights)
    % Write the parameters as a .caffemodel.
    if ~ischar(weights)
      error('caffe:UsageError', 'save takes the name of a file, got a value of class %s.', ...
        class(weights));
    end
    caffe.internal.gateway('net_save', self.hNet_self, weights);
  end
end

methods (Access = private)
  function describe(self)
    attributes = caffe.internal.gateway('net_get_attr', self.hNet_self);
    layers = cell(1, numel(attributes.hLayer_layers));
    for n = 1:numel(layers)
      layers{n} = caffe.Layer(attributes.hLayer_layers(n));
    end
    blobs = cell(1, numel(attributes.hBlob_blobs));
    for n = 1:numel(blobs)
      blobs{n} = caffe.Blob(attributes.hBlob_blobs(n));
    end
    self.layer_vec = caffe.internal.row_of(layers, 'caffe.Layer');
    self.blob_vec = caffe.internal.row_of(blobs, 'caffe.Blob');
    self.layer_names = attributes.layer_names;
    self.blob_names = attributes.blob_names;
    self.name2layer_index = numbers_of(self.layer_names);
    self.name2blob_index = numbers_of(self.blob_names);
    self.inputs = self.blob_names(attributes.input_blob_indices + 1);
    self.outputs = self.blob_names(attributes.output_blob_indices + 1);
  end

  function numbers = filled(~, arrays, names, what)
    % The numbers of the arrays that are not [].
    if ~iscell(arrays)
      error('caffe:UsageError', 'give the arrays in a cell array, one for each %s (%s).', what, ...
        strjoin(names', ', '));
    end
    if numel(arrays) ~= numel(names)
      error('caffe:UsageError', 'the net has %d of %s (%s), got %d arrays.', numel(names), ...
        what, strjoin(names', ', '), numel(arrays));
    end
    numbers = reshape(find(~cellfun('isempty', arrays)), 1, []);
  end

  function fill(self, arrays, names, what, setter)
    for n = self.filled(arrays, names, what)
      blob = self.blobs(names{n});
      blob.(setter)(arrays{n});
    end
  end

  function arrays = read(self, names, getter)
    arrays = cell(numel(names), 1);
    for n = 1:numel(names)
      blob = self.blobs(names{n});
      arrays{n} = blob.(getter)();
    end
  end
end
end

function map = numbers_of(names)
map = containers.Map('KeyType', 'char', 'ValueType', 'double');
for n = 1:numel(names)
  map(names{n}) = n;
end
end
