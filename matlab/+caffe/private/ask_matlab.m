function [answer, numbers] = ask_matlab(command, args, arrays)
% ASK_MATLAB  Run a command through MATLAB's bridge to Python.
persistent module
if isempty(module)
  module = import_moka();
end
head = jsonencode(struct('command', command, 'arguments', {args}));
row = zeros(1, 0, 'single');
if ~isempty(arrays)
  row = reshape(arrays{1}, 1, []);
end
result = module.answer(head, row);
answer = jsondecode(char(result{1}));
numbers = typecast(uint8(result{2}), 'single');
end

function module = import_moka()
python = getenv('CAFFE_PYTHON');
environment = pyenv;
if ~isempty(python) && environment.Status == "NotLoaded"
  pyenv('Version', python);
end
try
  module = py.importlib.import_module('moka.matlab.bridge');
catch fault
  error('caffe:NoPython', ['MATLAB''s Python (%s) has no moka: %s. Install it there, or set the ' ...
    'environment variable CAFFE_PYTHON to a Python that has it and restart MATLAB.'], ...
    char(pyenv().Executable), fault.message);
end
end
