function solver = get_solver(file)
% GET_SOLVER  A caffe.Solver from its file.
solver = caffe.Solver(file);
end
