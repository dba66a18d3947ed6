function varargout = caffe_(command, varargin)
% CAFFE_  The one function through which everything here speaks to Caffe.
%   result = CAFFE_(command, argument, ...) runs a command of matcaffe's gateway. Handles are
%   structs, or columns of them, with the fields ptr (uint64) and init_key (double).
args = cell(1, numel(varargin));
arrays = {};
for k = 1:numel(varargin)
  [args{k}, array] = written(varargin{k});
  arrays = [arrays, array];
end
if exist('OCTAVE_VERSION', 'builtin')
  [answer, numbers] = ask_octave(command, args, arrays);
else
  [answer, numbers] = ask_matlab(command, args, arrays);
end
if isfield(answer, 'error')
  error(answer.error.identifier, '%s', answer.error.message);
end
if nargout > 0 || ~isempty(answer.result)
  varargout{1} = value_of(answer.result, numbers);
end
end

function [argument, array] = written(value)
% An argument as the head of a request has it; a single array is sent beside it.
array = {};
if ischar(value)
  argument = value;
elseif isstruct(value) && isfield(value, 'ptr') && isfield(value, 'init_key')
  key = 0;
  if ~isempty(value)
    key = value(1).init_key;
  end
  argument = struct('handles', reshape(double([value.ptr]), 1, []), 'init_key', key);
elseif isa(value, 'single')
  argument = struct('single', size(value));
  array = {value};
elseif iscellstr(value)
  argument = struct('texts', {reshape(value, 1, [])});
elseif isnumeric(value) && isreal(value) && (isempty(value) || size(value, 1) == 1) ...
    && ndims(value) == 2 && numel(value) <= 32
  argument = double(value);
else
  argument = struct('class', class(value), 'size', size(value));
end
end

function value = value_of(result, numbers)
% The value of a result that the head of an answer has.
if ~isstruct(result)
  value = result;
elseif isfield(result, 'handles')
  value = struct('ptr', num2cell(uint64(result.handles(:))), 'init_key', result.init_key);
elseif isfield(result, 'single')
  value = reshape(numbers, reshape(result.single, 1, []));
elseif isfield(result, 'row')
  value = reshape(double(result.row), 1, []);
elseif isfield(result, 'column')
  value = reshape(double(result.column), [], 1);
elseif isfield(result, 'texts')
  value = reshape(cellstr_of(result.texts), [], 1);
else
  value = struct();
  names = fieldnames(result.struct);
  for k = 1:numel(names)
    value.(names{k}) = value_of(result.struct.(names{k}), numbers);
  end
end
end

function texts = cellstr_of(texts)
if isempty(texts)
  texts = cell(0, 1);
elseif ~iscell(texts)
  texts = cellstr(texts);
end
end
