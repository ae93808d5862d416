"""The proof that an NPU works: the vendor's yolov5 demo, and the same model served by Triton."""
