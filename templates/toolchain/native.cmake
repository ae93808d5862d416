# Made by tritonbuild; read by CMake in every nested project.

# Run paths of the build tree are relative: their length, and with it every offset in a program,
# would otherwise depend on where the build happens.
set(CMAKE_BUILD_RPATH_USE_ORIGIN ON)
