classdef Solver < handle
% SOLVER  Trains a net by a solver file.
%   solver = caffe.Solver(file)
properties (SetAccess = private)
  net        % the caffe.Net that is trained
  test_nets  % those it is tested with: test_nets(n) is a caffe.Net
end

properties (Access = private)
  hSolver_self
end

methods
  function self = Solver(file)
    if nargin ~= 1
      error('caffe:UsageError', 'caffe.Solver takes the name of a solver file.');
    end
    file = caffe.internal.existing_file(file, 'solver');
    self.hSolver_self = caffe.internal.gateway('get_solver', file);
    attributes = caffe.internal.gateway('solver_get_attr', self.hSolver_self);
    self.net = caffe.Net(attributes.hNet_net);
    nets = cell(1, numel(attributes.hNet_test_nets));
    for n = 1:numel(nets)
      nets{n} = caffe.Net(attributes.hNet_test_nets(n));
    end
    self.test_nets = caffe.internal.row_of(nets, 'caffe.Net');
  end

  function delete(self)
    % Free the solver and its nets. A solver that reset_all has freed is none.
    try
      caffe.internal.gateway('delete_solver', self.hSolver_self);
    catch
    end
  end

  function count = iter(self)
    % How many updates have been made.
    count = caffe.internal.gateway('solver_get_iter', self.hSolver_self);
  end

  function count = max_iter(self)
    % The number of iterations after which solve ends.
    count = caffe.internal.gateway('solver_get_max_iter', self.hSolver_self);
  end

  function snapshot(self, state, weights)
    % Write model and state now, under the snapshot_prefix or under these two names.
    if nargin == 1
      state = '';
      weights = '';
    elseif nargin ~= 3
      error('caffe:UsageError', 'snapshot takes nothing, or the names of a state and of a model.');
    end
    caffe.internal.gateway('solver_snapshot', self.hSolver_self, state, weights);
  end

  function step(self, iterations)
    % Train for some iterations.
    if ~isnumeric(iterations) || ~isscalar(iterations)
      error('caffe:UsageError', 'step takes the number of iterations.');
    end
    caffe.internal.gateway('solver_step', self.hSolver_self, double(iterations));
  end

  function solve(self)
    % Train to max_iter. An interrupt (Ctrl-C) ends it after the iteration, with a snapshot.
    caffe.internal.gateway('solver_solve', self.hSolver_self);
  end

  function restore(self, state)
    % Go on from a .solverstate.
    state = caffe.internal.existing_file(state, 'snapshot');
    caffe.internal.gateway('solver_restore', self.hSolver_self, state);
  end
end
end
