"""What this machine and this installation offer, and what is wrong with them: `caffe doctor`."""
