function text = version()
% VERSION  The version of Caffe whose interface this is.
text = caffe.internal.gateway('version');
end
