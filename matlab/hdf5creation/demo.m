% Write 10,000 random images in batches of 1000 and list the file for an HDF5Data layer.
filename = 'trial.h5';
created = false;
total = 10000;
chunk = 1000;
for batch = 1:total / chunk
  fprintf('batch %d\n', batch);
  data = rand(5, 5, 1, chunk);
  labels = randi(10, 1, chunk) - 1;
  position = (batch - 1) * chunk + 1;
  start = struct('dat', [1, 1, 1, position], 'lab', [1, position]);
  [data_size, label_size] = store2hdf5(filename, data, labels, ~created, start, chunk);
  created = true;
end
fprintf('%s: data [%s], labels [%s]\n', filename, num2str(data_size), num2str(label_size));
list = fopen('list.txt', 'w');
fprintf(list, '%s\n', filename);
fclose(list);
disp('An HDF5Data layer reads it with hdf5_data_param { source: "list.txt" batch_size: 64 }.');
