/* SPDX-License-Identifier: Apache-2.0 */
/* In a folder of its own, so that a build has to lay the headers side by side. */
#pragma once

static const char* const kOrtSessionOptionsDisablePrepacking = "session.disable_prepacking";
