classdef Vector < handle
% VECTOR  A row of objects, for Octave 7, which has no arrays of classdef objects.
%   v(n), v(n).method(...), v(end), numel(v), length(v), size(v), isempty(v)
properties (Access = private)
  items
end

methods
  function self = Vector(items)
    self.items = reshape(items, 1, []);
  end

  function count = numel(self, varargin)
    count = numel(self.items);
  end

  function count = length(self)
    count = numel(self.items);
  end

  function result = isempty(self)
    result = isempty(self.items);
  end

  function varargout = size(self, varargin)
    [varargout{1:max(nargout, 1)}] = size(self.items, varargin{:});
  end

  function index = end(self, position, count)
    index = numel(self.items);
  end

  function varargout = subsref(self, where)
    if ! strcmp(where(1).type, '()')
      [varargout{1:max(nargout, 1)}] = builtin('subsref', self, where);
      return
    end
    index = where(1).subs{1};
    if ischar(index) || numel(index) ~= 1
      varargout{1} = caffe.internal.Vector(self.items(index));
      if numel(where) > 1
        [varargout{1:max(nargout, 1)}] = subsref(varargout{1}, where(2:end));
      end
      return
    end
    if index < 1 || index > numel(self.items) || index ~= fix(index)
      error('caffe:UsageError', 'index %g is out of range: there are 1 to %d.', index, ...
        numel(self.items));
    end
    item = self.items{index};
    if numel(where) == 1
      varargout{1} = item;
    elseif nargout > 0
      [varargout{1:nargout}] = subsref(item, where(2:end));
    else
      % Methods with and without a result come here; what is returned becomes ans.
      ans = [];
      subsref(item, where(2:end));
      if ! isempty(ans)
        varargout{1} = ans;
      end
    end
  end
end
end
