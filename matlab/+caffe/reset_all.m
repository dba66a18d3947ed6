function reset_all()
% RESET_ALL  Free all nets and solvers. What was made before is no longer valid.
caffe.internal.gateway('reset');
end
