// SPDX-License-Identifier: Apache-2.0
// A STAND-IN for Rockchip's librga.so: it resizes nothing.
int imresize_standin(void) { return 0; }
