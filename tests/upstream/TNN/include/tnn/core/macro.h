// SPDX-License-Identifier: Apache-2.0
#pragma once
#define TNN_NS tnn
#define PUBLIC __attribute__((visibility("default")))
