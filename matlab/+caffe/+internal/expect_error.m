function expect_error(call, identifier, part)
% EXPECT_ERROR  An error unless a call fails with this identifier and a message with this part.
try
  call();
catch fault
  caffe.internal.check(strcmp(fault.identifier, identifier), ...
    sprintf('%s is %s (%s)', fault.identifier, identifier, fault.message));
  caffe.internal.check(~isempty(strfind(fault.message, part)), ...
    sprintf('"%s" has "%s"', fault.message, part));
  return
end
error('caffe:TestFailed', 'there is no error %s', identifier);
end
