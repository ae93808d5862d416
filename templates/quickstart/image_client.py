# SPDX-License-Identifier: Apache-2.0
"""Has pictures classified by a model that Triton serves.

In short what Triton's own image_client does, and it says the same. It needs
`pip install 'tritonclient[grpc]' pillow`.
"""

import argparse
from typing import Any, List

import numpy as np
import tritonclient.grpc as triton
from PIL import Image

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SCALINGS = {
    "NONE": lambda pixels: pixels,
    "INCEPTION": lambda pixels: pixels / 127.5 - 1,
    "IMAGENET": lambda pixels: (pixels / 255 - np.array(MEAN)) / np.array(DEVIATION),
}


def preprocess(path: str, scaling: str, size: int = 224) -> Any:
    """Return the middle of a picture as the model wants it: [1, 3, size, size] in FP32."""
    image = Image.open(path).convert("RGB")
    # The shorter side is made a seventh longer than the square that is cut out.
    factor = size * 8 / 7 / min(image.size)
    image = image.resize((round(image.width * factor), round(image.height * factor)))
    left, top = (image.width - size) // 2, (image.height - size) // 2
    image = image.crop((left, top, left + size, top + size))
    pixels = SCALINGS[scaling](np.asarray(image, dtype=np.float32))
    return pixels.transpose(2, 0, 1)[np.newaxis].astype(np.float32)


def classify(client: Any, model: str, pixels: Any, classes: int) -> List[str]:
    """Return the likeliest classes as the server says them: `score:number:label`."""
    metadata = client.get_model_metadata(model)
    tensor = triton.InferInput(metadata.inputs[0].name, pixels.shape, "FP32")
    tensor.set_data_from_numpy(pixels)
    name = metadata.outputs[0].name
    output = triton.InferRequestedOutput(name, class_count=classes)
    found = client.infer(model, [tensor], outputs=[output]).as_numpy(name)
    return [one.decode() for one in found.flatten()]


def main() -> None:
    """Read the options, ask for each picture, print."""
    parser = argparse.ArgumentParser(description="Have pictures classified by Triton.")
    parser.add_argument("-m", "--model-name", required=True)
    parser.add_argument("-c", "--classes", type=int, default=1, help="how many to show")
    parser.add_argument("-s", "--scaling", choices=sorted(SCALINGS), default="NONE")
    parser.add_argument("-u", "--url", default="localhost:8001", help="the server's gRPC")
    parser.add_argument("images", nargs="+")
    options = parser.parse_args()
    client = triton.InferenceServerClient(options.url)
    for path in options.images:
        print(f"Image '{path}':")  # noqa: T201
        pixels = preprocess(path, options.scaling)
        for found in classify(client, options.model_name, pixels, options.classes):
            score, number, *label = found.split(":")
            print(f"    {score} ({number}) = {''.join(label)}")  # noqa: T201


if __name__ == "__main__":
    main()
