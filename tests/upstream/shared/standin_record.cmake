# SPDX-License-Identifier: Apache-2.0
# Notes which cache variables this project was given, before it makes any of its own, in
# ${CMAKE_BINARY_DIR}/standin_cmake_variables.txt: one line NAME:TYPE=VALUE for each, sorted, with
# CMake's word UNINITIALIZED for those that came without a type. Every stand-in's CMakeLists.txt
# includes this file before project(); materialise.py puts a copy into every repository.

if(CMAKE_CURRENT_SOURCE_DIR STREQUAL CMAKE_SOURCE_DIR)
  set(_record "${CMAKE_BINARY_DIR}/standin_cmake_variables.txt")
  # In a build folder that was configured before, the cache holds the project's own variables too;
  # then only what is new and untyped, or was noted the first time, came from outside.
  set(_known "")
  set(_first TRUE)
  if(EXISTS "${_record}")
    set(_first FALSE)
    file(STRINGS "${_record}" _lines)
    foreach(_line IN LISTS _lines)
      string(REGEX REPLACE ":.*" "" _name "${_line}")
      list(APPEND _known "${_name}")
    endforeach()
  endif()
  get_cmake_property(_names CACHE_VARIABLES)
  list(SORT _names)
  set(_text "# generator ${CMAKE_GENERATOR}\n")
  foreach(_name IN LISTS _names)
    get_property(_type CACHE "${_name}" PROPERTY TYPE)
    if(_type STREQUAL "INTERNAL" OR _type STREQUAL "STATIC")
      continue()
    endif()
    list(FIND _known "${_name}" _at)  # IN_LIST is newer than some of these projects
    if(_first OR _type STREQUAL "UNINITIALIZED" OR NOT _at EQUAL -1)
      get_property(_value CACHE "${_name}" PROPERTY VALUE)
      string(APPEND _text "${_name}:${_type}=${_value}\n")
    endif()
  endforeach()
  file(WRITE "${_record}" "${_text}")
endif()
