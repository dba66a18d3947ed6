function varargout = gateway(varargin)
% GATEWAY  Call caffe_, the private function of this package.
%   Octave 7 lets nobody in a package see the package's private functions, so there the folder
%   joins the path.
persistent is_visible
if isempty(is_visible)
  if exist('OCTAVE_VERSION', 'builtin')
    addpath(fullfile(fileparts(fileparts(mfilename('fullpath'))), 'private'));
  end
  is_visible = true;
end
[varargout{1:nargout}] = caffe_(varargin{:});
end
