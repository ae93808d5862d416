#!/usr/bin/env bash

#
# Build script for Triton Inference Server
#

# Exit script immediately if any command fails
set -e
set -x

########
# Triton core library and tritonserver executable
#
mkdir -p /data/github_codes/server/build/tritonserver/build
cd /data/github_codes/server/build/tritonserver/build
cmake "-DTRT_VERSION=${TRT_VERSION}" "-DCMAKE_TOOLCHAIN_FILE=${CMAKE_TOOLCHAIN_FILE}" "-DVCPKG_TARGET_TRIPLET=${VCPKG_TARGET_TRIPLET}" "-DCMAKE_BUILD_TYPE=Release" "-DCMAKE_INSTALL_PREFIX:PATH=/data/github_codes/server/build/tritonserver/install" "-DTRITON_VERSION:STRING=2.41.0" "-DTRITON_COMMON_REPO_TAG:STRING=r23.12" "-DTRITON_CORE_REPO_TAG:STRING=r23.12" "-DTRITON_BACKEND_REPO_TAG:STRING=r23.12" "-DTRITON_THIRD_PARTY_REPO_TAG:STRING=r23.12" "-DTRITON_ENABLE_LOGGING:BOOL=ON" "-DTRITON_ENABLE_STATS:BOOL=ON" "-DTRITON_ENABLE_METRICS:BOOL=ON" "-DTRITON_ENABLE_METRICS_GPU:BOOL=OFF" "-DTRITON_ENABLE_METRICS_CPU:BOOL=ON" "-DTRITON_ENABLE_TRACING:BOOL=ON" "-DTRITON_ENABLE_NVTX:BOOL=OFF" "-DTRITON_ENABLE_GPU:BOOL=OFF" "-DTRITON_MIN_COMPUTE_CAPABILITY=6.0" "-DTRITON_ENABLE_MALI_GPU:BOOL=ON" "-DTRITON_ENABLE_GRPC:BOOL=ON" "-DTRITON_ENABLE_HTTP:BOOL=ON" "-DTRITON_ENABLE_SAGEMAKER:BOOL=OFF" "-DTRITON_ENABLE_VERTEX_AI:BOOL=OFF" "-DTRITON_ENABLE_GCS:BOOL=OFF" "-DTRITON_ENABLE_S3:BOOL=OFF" "-DTRITON_ENABLE_AZURE_STORAGE:BOOL=OFF" "-DTRITON_ENABLE_ENSEMBLE:BOOL=ON" "-DTRITON_ENABLE_TENSORRT:BOOL=OFF" /data/github_codes/server
make -j16 VERBOSE=1 install
mkdir -p /data/github_codes/server/build/opt/tritonserver/bin
cp /data/github_codes/server/build/tritonserver/install/bin/tritonserver /data/github_codes/server/build/opt/tritonserver/bin
mkdir -p /data/github_codes/server/build/opt/tritonserver/lib
cp /data/github_codes/server/build/tritonserver/install/lib/libtritonserver.so /data/github_codes/server/build/opt/tritonserver/lib
mkdir -p /data/github_codes/server/build/opt/tritonserver/python
cp /data/github_codes/server/build/tritonserver/install/python/tritonserver*.whl /data/github_codes/server/build/opt/tritonserver/python
mkdir -p /data/github_codes/server/build/opt/tritonserver/include/triton
cp -r /data/github_codes/server/build/tritonserver/install/include/triton/core /data/github_codes/server/build/opt/tritonserver/include/triton/core
cp /data/github_codes/server/LICENSE /data/github_codes/server/build/opt/tritonserver
cp /data/github_codes/server/TRITON_VERSION /data/github_codes/server/build/opt/tritonserver
#
# end Triton core library and tritonserver executable
########

########
# 'python' backend
# Delete this section to remove backend from build
#
mkdir -p /data/github_codes/server/build
cd /data/github_codes/server/build
rm -fr python
if [[ ! -e python ]]; then
  git clone --recursive --single-branch --depth=1 -b r23.12 https://github.com/triton-inference-server/python_backend.git python;
fi
mkdir -p /data/github_codes/server/build/python/build
cd /data/github_codes/server/build/python/build
cmake "-DTRT_VERSION=${TRT_VERSION}" "-DCMAKE_TOOLCHAIN_FILE=${CMAKE_TOOLCHAIN_FILE}" "-DVCPKG_TARGET_TRIPLET=${VCPKG_TARGET_TRIPLET}" "-DCMAKE_BUILD_TYPE=Release" "-DCMAKE_INSTALL_PREFIX:PATH=/data/github_codes/server/build/python/install" "-DTRITON_COMMON_REPO_TAG:STRING=r23.12" "-DTRITON_CORE_REPO_TAG:STRING=r23.12" "-DTRITON_BACKEND_REPO_TAG:STRING=r23.12" "-DTRITON_ENABLE_GPU:BOOL=OFF" "-DTRITON_ENABLE_MALI_GPU:BOOL=ON" "-DTRITON_ENABLE_STATS:BOOL=ON" "-DTRITON_ENABLE_METRICS:BOOL=ON" ..
make -j16 VERBOSE=1 install
mkdir -p /data/github_codes/server/build/opt/tritonserver/backends
rm -fr /data/github_codes/server/build/opt/tritonserver/backends/python
cp -r /data/github_codes/server/build/python/install/backends/python /data/github_codes/server/build/opt/tritonserver/backends
#
# end 'python' backend
########

########
# 'onnxruntime' backend
# Delete this section to remove backend from build
#
mkdir -p /data/github_codes/server/build
cd /data/github_codes/server/build
rm -fr onnxruntime
if [[ ! -e onnxruntime ]]; then
  git clone --recursive --single-branch --depth=1 -b r23.12 https://github.com/triton-inference-server/onnxruntime_backend.git onnxruntime;
fi
mkdir -p /data/github_codes/server/build/onnxruntime/build
cd /data/github_codes/server/build/onnxruntime/build
cmake "-DTRT_VERSION=${TRT_VERSION}" "-DCMAKE_TOOLCHAIN_FILE=${CMAKE_TOOLCHAIN_FILE}" "-DVCPKG_TARGET_TRIPLET=${VCPKG_TARGET_TRIPLET}" "-DTRITON_BUILD_ONNXRUNTIME_VERSION=1.16.3" "-DTRITON_BUILD_CONTAINER_VERSION=23.12" "-DCMAKE_BUILD_TYPE=Release" "-DCMAKE_INSTALL_PREFIX:PATH=/data/github_codes/server/build/onnxruntime/install" "-DTRITON_COMMON_REPO_TAG:STRING=r23.12" "-DTRITON_CORE_REPO_TAG:STRING=r23.12" "-DTRITON_BACKEND_REPO_TAG:STRING=r23.12" "-DTRITON_ENABLE_GPU:BOOL=OFF" "-DTRITON_ENABLE_MALI_GPU:BOOL=ON" "-DTRITON_ENABLE_STATS:BOOL=ON" "-DTRITON_ENABLE_METRICS:BOOL=ON" ..
make -j16 VERBOSE=1 install
mkdir -p /data/github_codes/server/build/opt/tritonserver/backends
rm -fr /data/github_codes/server/build/opt/tritonserver/backends/onnxruntime
cp -r /data/github_codes/server/build/onnxruntime/install/backends/onnxruntime /data/github_codes/server/build/opt/tritonserver/backends
#
# end 'onnxruntime' backend
########

########
# 'rknn' backend
# Delete this section to remove backend from build
#
mkdir -p /data/github_codes/server/build
cd /data/github_codes/server/build
rm -fr rknn
if [[ ! -e rknn ]]; then
  git clone -b r23.12 https://github.com/zjd1988/rknn_backend.git rknn;
fi
mkdir -p /data/github_codes/server/build/rknn/build
cd /data/github_codes/server/build/rknn/build
cmake "-DTRT_VERSION=${TRT_VERSION}" "-DCMAKE_TOOLCHAIN_FILE=${CMAKE_TOOLCHAIN_FILE}" "-DVCPKG_TARGET_TRIPLET=${VCPKG_TARGET_TRIPLET}" "-DTRITON_BUILD_CONTAINER_VERSION=23.12" "-DCMAKE_BUILD_TYPE=Release" "-DCMAKE_INSTALL_PREFIX:PATH=/data/github_codes/server/build/rknn/install" "-DTRITON_COMMON_REPO_TAG:STRING=r23.12" "-DTRITON_CORE_REPO_TAG:STRING=r23.12" "-DTRITON_BACKEND_REPO_TAG:STRING=r23.12" "-DTRITON_ENABLE_GPU:BOOL=OFF" "-DTRITON_ENABLE_MALI_GPU:BOOL=ON" "-DTRITON_ENABLE_STATS:BOOL=ON" "-DTRITON_ENABLE_METRICS:BOOL=ON" ..
make -j16 VERBOSE=1 install
mkdir -p /data/github_codes/server/build/opt/tritonserver/backends
rm -fr /data/github_codes/server/build/opt/tritonserver/backends/rknn
cp -r /data/github_codes/server/build/rknn/install/backends/rknn /data/github_codes/server/build/opt/tritonserver/backends
#
# end 'rknn' backend
########

