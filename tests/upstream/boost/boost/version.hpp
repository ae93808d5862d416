// SPDX-License-Identifier: Apache-2.0
#ifndef BOOST_VERSION_HPP
#define BOOST_VERSION_HPP
#define BOOST_VERSION 107900
#define BOOST_LIB_VERSION "1_79"
#endif
