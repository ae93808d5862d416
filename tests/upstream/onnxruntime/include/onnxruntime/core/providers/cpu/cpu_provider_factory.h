/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "onnxruntime_c_api.h"
