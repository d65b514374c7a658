"""ONNX files: read, limited, rewritten, exported."""
