function set_mode_cpu()
% SET_MODE_CPU  Run the nets and solvers that are made from now on on the CPU.
caffe.internal.gateway('set_mode_cpu');
end
