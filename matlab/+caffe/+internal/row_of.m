function items = row_of(items, class_name)
% ROW_OF  Objects of one class as what v(n), numel(v) and v(end) work on.
%   In MATLAB that is an array of objects. Octave 7 has none; there it is a caffe.internal.Vector.
if exist('OCTAVE_VERSION', 'builtin')
  items = caffe.internal.Vector(items);
elseif isempty(items)
  items = feval([class_name '.empty']);
else
  items = [items{:}];
end
end
