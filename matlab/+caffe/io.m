classdef io
% IO  Images and means as Caffe takes them: width x height x channels, BGR, single, 0 to 255.
methods (Static)
  function image = load_image(file)
    % An image from a file: BGR, or one channel if it is gray.
    file = caffe.internal.existing_file(file, 'image');
    [image, colors] = imread(file);
    if ~isempty(colors)
      image = uint8(round(255 * ind2rgb(image, colors)));
    elseif islogical(image)
      image = 255 * uint8(image);
    elseif isa(image, 'uint16')
      image = double(image) / 257;
    end
    if size(image, 3) >= 3
      image = image(:, :, [3, 2, 1]);
    else
      image = image(:, :, 1);
    end
    image = single(permute(image, [2, 1, 3]));
  end

  function mean_data = read_mean(file)
    % A mean image from a .binaryproto.
    file = caffe.internal.existing_file(file, 'mean');
    mean_data = caffe.internal.gateway('read_mean', file);
  end

  function write_mean(mean_data, file)
    % Write a mean image, single, width x height x channels, as a .binaryproto.
    if ~isa(mean_data, 'single')
      error('caffe:UsageError', 'the mean is an array of class single, got %s.', class(mean_data));
    end
    if ~ischar(file)
      error('caffe:UsageError', 'write_mean takes the name of a file.');
    end
    caffe.internal.gateway('write_mean', mean_data, file);
  end
end
end
