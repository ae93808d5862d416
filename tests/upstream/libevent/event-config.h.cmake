/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EVENT2_EVENT_CONFIG_H_INCLUDED_
#define EVENT2_EVENT_CONFIG_H_INCLUDED_
#cmakedefine EVENT__HAVE_ARC4RANDOM 1
#cmakedefine EVENT__HAVE_ARC4RANDOM_BUF 1
#endif
