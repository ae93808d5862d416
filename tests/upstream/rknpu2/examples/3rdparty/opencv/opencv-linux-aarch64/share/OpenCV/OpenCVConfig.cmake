# SPDX-License-Identifier: Apache-2.0
# The stand-in demo decodes no picture.
set(OpenCV_LIBS)
