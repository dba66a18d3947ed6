function set_mode_gpu()
% SET_MODE_GPU  Run the nets and solvers that are made from now on on the GPU, if there is one.
caffe.internal.gateway('set_mode_gpu');
end
