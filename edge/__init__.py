"""What runs on the device: numpy, onnxruntime and Pillow alone, never torch or ray."""
