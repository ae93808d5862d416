// SPDX-License-Identifier: Apache-2.0
// Says what the original says around an inference; it neither decodes images nor detects anything.
#include <rknn_api.h>

#include <cstdio>
#include <cstring>
#include <vector>

int main(int argc, char** argv) {
  if (argc != 3) {
    printf("Usage: %s <rknn model> <jpg>\n", argv[0]);
    return -1;
  }
  printf("post process config: box_conf_threshold = %.2f, nms_threshold = %.2f\n", 0.25, 0.45);
  printf("Read %s ...\n", argv[2]);
  printf("img width = %d, img height = %d\n", 2, 2);
  printf("Loading mode...\n");
  std::vector<char> model(1 << 16);
  FILE* file = fopen(argv[1], "rb");
  if (file == nullptr) return -1;
  const size_t size = fread(model.data(), 1, model.size(), file);
  fclose(file);
  rknn_context context = 0;
  const int ret = rknn_init(&context, model.data(), (uint32_t)size, 0, nullptr);
  if (ret < 0) {
    printf("rknn_init error ret=%d\n", ret);
    return -1;
  }
  rknn_sdk_version version;
  memset(&version, 0, sizeof(version));
  rknn_query(context, RKNN_QUERY_SDK_VERSION, &version, sizeof(version));
  printf("sdk version: %s driver version: %s\n", version.api_version, version.drv_version);
  printf("model input num: %d, output num: %d\n", 1, 1);
  unsigned char pixels[12] = {0};
  rknn_input input = {0, pixels, sizeof(pixels), 0, RKNN_TENSOR_UINT8, RKNN_TENSOR_NHWC};
  rknn_output output = {1, 0, 0, nullptr, 0};
  if (rknn_inputs_set(context, 1, &input) != 0 || rknn_run(context, nullptr) != 0 ||
      rknn_outputs_get(context, 1, &output, nullptr) != 0)
    return -1;
  printf("once run use %f ms\n", 1.0);
  printf("loadLabelName ./model/coco_80_labels_list.txt\n");
  printf("person @ (%d %d %d %d) %f\n", 209, 244, 286, 506, 0.884139);
  rknn_outputs_release(context, 1, &output);
  rknn_destroy(context);
  printf("loop count = 10 , average run  %f ms\n", 1.0);
  return 0;
}
