function [answer, numbers] = ask_octave(command, args, arrays)
% ASK_OCTAVE  Run a command in the Python process, which the first call starts.
persistent child
if isempty(child)
  child = start_python();
end
child.count++;
head = struct('id', child.count, 'command', command, 'arguments', {args});
state = 'sending';
answer = [];
how = [];
unwind_protect
  is_sent = send(child, jsonencode(head), arrays);
  state = 'waiting';
  [answer, numbers, how] = receive(child, child.count);
  state = 'done';
unwind_protect_cleanup
  if strcmp(state, 'waiting') && is_sent
    % An interrupt. Python is told of it and ends the command, so that the next answer is again
    % that of the next request.
    kill(child.pid, SIG().INT);
    [answer, numbers, how] = receive(child, child.count);
    state = 'done';
  end
  if ! strcmp(state, 'done') || isempty(answer)
    status = finish(child, how);
    child = [];
  end
end_unwind_protect
if isempty(answer)
  error('caffe:PythonEnded', ['The Python process of caffe has ended (%s). The next call starts ' ...
    'another one; nets and solvers made so far are gone: make them anew.'], status);
end
end

function child = start_python()
wanted = getenv('CAFFE_PYTHON');
if isempty(wanted)
  candidates = {'python3', 'python'};
else
  candidates = {wanted};
end
for k = 1:numel(candidates)
  test = 'import importlib.util as u, sys; sys.exit(u.find_spec(\"moka\") is None)';
  [status, ~] = system(sprintf('"%s" -c "%s" 2>&1', candidates{k}, test));
  if status ~= 0
    continue
  end
  [in, out, pid] = popen2(candidates{k}, {'-m', 'moka.matlab'});
  child = struct('in', in, 'out', out, 'pid', pid, 'count', 0);
  [answer, ~, how] = receive(child, []);
  if ! isempty(answer)
    return
  end
  finish(child, how);
end
if isempty(wanted)
  advice = ['Neither python3 nor python on the PATH has moka. Install it, or set the ' ...
    'environment variable CAFFE_PYTHON to a Python that has it.'];
else
  advice = sprintf(['The Python that the environment variable CAFFE_PYTHON names, %s, cannot ' ...
    'be started or has no moka.'], wanted);
end
error('caffe:NoPython', '%s', advice);
end

function is_sent = send(child, text, arrays)
fwrite(child.in, numel(text), 'uint32');
fwrite(child.in, text, 'uint8');
for k = 1:numel(arrays)
  fwrite(child.in, typecast(arrays{k}(:), 'uint8'), 'uint8');
end
is_sent = fflush(child.in) == 0;
end

function [answer, numbers, how] = receive(child, id)
% The answer with this id ([]: the first message); [] if Python has ended, and how. Logs are shown.
while true
  answer = [];
  numbers = [];
  [count, how] = wait_for_length(child);
  if isempty(count)
    return
  end
  text = fread(child.out, count, 'uint8=>char')';
  if numel(text) < count
    return
  end
  answer = jsondecode(text);
  numbers = read_numbers(child, answer);
  if isfield(answer, 'log')
    fputs(stderr, answer.log);
  elseif isempty(id) || isequal(answer.id, id)
    return
  end
end
end

function [count, how] = wait_for_length(child)
% Waits for four bytes. It polls, since a read that waits cannot be interrupted without harm: at
% first without a pause, for short commands, then less and less often.
how = [];
pause_s = 0;
started = tic();
fcntl(child.out, F_SETFL, O_NONBLOCK);
while true
  count = fread(child.out, 1, 'uint32=>double');
  if ! isempty(count)
    break
  end
  fclear(child.out);
  if toc(started) > 0.005
    pause_s = min(0.02, pause_s + 0.0005);
    pause(pause_s);
    [pid, how] = waitpid(child.pid, WNOHANG);
    if pid == child.pid
      break
    end
    how = [];
  end
end
fcntl(child.out, F_SETFL, 0);
end

function numbers = read_numbers(child, answer)
numbers = zeros(0, 1, 'single');
if isfield(answer, 'result') && isfield(answer.result, 'single')
  numbers = fread(child.out, prod(answer.result.single), 'single=>single');
end
end

function status = finish(child, how)
% Ends the process, if it still runs (how is []), and says how it ended.
if isempty(how)
  kill(child.pid, SIG().KILL);
  [~, how] = waitpid(child.pid);
end
fclose(child.in);
fclose(child.out);
if WIFSIGNALED(how)
  status = sprintf('process %d, by signal %d', child.pid, WTERMSIG(how));
else
  status = sprintf('process %d, with exit status %d', child.pid, WEXITSTATUS(how));
end
end
