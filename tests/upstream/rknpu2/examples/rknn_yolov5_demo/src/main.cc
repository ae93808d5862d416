// SPDX-License-Identifier: Apache-2.0
// Says what the original says around an inference; it neither decodes images nor detects anything:
// tensors, objects and times are a recorded run's, which the stand-in's model holds.
#include <rknn_api.h>

#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

extern "C" int imresize_standin();  // librga.so's

int main(int argc, char** argv) {
  if (argc != 3) {
    printf("Usage: %s <rknn model> <jpg> \n", argv[0]);
    return -1;
  }
  printf("post process config: box_conf_threshold = %.2f, nms_threshold = %.2f\n", 0.25, 0.45);
  printf("Read %s ...\n", argv[2]);
  FILE* picture = fopen(argv[2], "rb");
  if (picture == nullptr) {
    printf("cv::imread %s fail!\n", argv[2]);
    return -1;
  }
  fclose(picture);
  printf("img width = %d, img height = %d\n", 640, 640);
  printf("Loading mode...\n");
  std::vector<char> model(1 << 16);
  FILE* file = fopen(argv[1], "rb");
  if (file == nullptr) {
    printf("Open file %s failed.\n", argv[1]);
    return -1;
  }
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
  std::vector<unsigned char> pixels(640 * 640 * 3);
  rknn_input input = {0, pixels.data(), uint32_t(pixels.size()), 0, RKNN_TENSOR_UINT8,
                      RKNN_TENSOR_NHWC};
  std::vector<rknn_output> outputs(3, rknn_output{1, 0, 0, nullptr, 0});
  if (rknn_inputs_set(context, 1, &input) != 0 || rknn_run(context, nullptr) != 0 ||
      rknn_outputs_get(context, 3, outputs.data(), nullptr) != 0)
    return -1;
  if (imresize_standin() != 0) return -1;
  // What the recorded run printed from here on; the original needs its labels from the current folder.
  FILE* labels = fopen("./model/coco_80_labels_list.txt", "r");
  if (labels == nullptr) {
    printf("Open ./model/coco_80_labels_list.txt fail!\n");
    return -1;
  }
  fclose(labels);
  const std::string content(model.data(), size);
  const size_t begin = content.find("model input num:"), end = content.find('\0', begin);
  if (begin != std::string::npos) fputs(content.substr(begin, end - begin).c_str(), stdout);
  rknn_outputs_release(context, 3, outputs.data());
  rknn_destroy(context);
  return 0;
}
