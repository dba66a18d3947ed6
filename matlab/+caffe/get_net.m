function net = get_net(varargin)
% GET_NET  A caffe.Net: get_net(model, phase) or get_net(model, weights, phase).
net = caffe.Net(varargin{:});
end
