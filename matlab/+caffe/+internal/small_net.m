function name = small_net()
% SMALL_NET  Write the net of the tests to a file of its own: data 2 x 3 x 6 x 5, conv, ip.
text = {
  'name: "small" force_backward: true'
  'layer { name: "data" type: "Input" top: "data"'
  '  input_param { shape { dim: 2 dim: 3 dim: 6 dim: 5 } } }'
  'layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"'
  '  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "gaussian" std: 1 }'
  '    bias_filler { type: "constant" value: 2 } } }'
  'layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip"'
  '  inner_product_param { num_output: 7 weight_filler { type: "xavier" } } }'};
name = [tempname() '.prototxt'];
file = fopen(name, 'w');
fprintf(file, '%s\n', text{:});
fclose(file);
end
