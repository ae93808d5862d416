// SPDX-License-Identifier: Apache-2.0
#pragma once
#define TNN_VERSION "0.3.0"
