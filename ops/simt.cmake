# Kernels without a GPU (simt.h). A file has one language per directory, and .cu is CUDA's where CUDA is on; so g++ gets a generated
# .cpp of one line that includes the .cu.
find_package(Boost REQUIRED COMPONENTS context)

set(THIMBLE_SIMT_DIR ${CMAKE_CURRENT_LIST_DIR})

# thimble_simt_library(<name> [TSAN] [OPTIONS flag...]): the shim, for kernels that are compiled with the same flags.
function(thimble_simt_library name)
  cmake_parse_arguments(PARSE_ARGV 1 simt "TSAN" "" "OPTIONS")
  add_library(${name} STATIC EXCLUDE_FROM_ALL)
  foreach(part block cpu fiber places shared_memory warp)
    target_sources(${name} PRIVATE ${THIMBLE_SIMT_DIR}/simt_${part}.cpp)
  endforeach()
  target_include_directories(${name} PUBLIC $<BUILD_INTERFACE:${THIMBLE_SIMT_DIR}>)
  target_link_libraries(${name} PUBLIC thimble_allocator PRIVATE Boost::context TBB::tbb)
  target_compile_features(${name} PUBLIC cxx_std_20)
  target_compile_options(${name} INTERFACE ${simt_OPTIONS})
  target_link_options(${name} INTERFACE ${simt_OPTIONS})
  if(simt_TSAN)
    # Kernels are instrumented, the scheduler under them is not: its own data would be reported.
    target_compile_definitions(${name} PRIVATE THIMBLE_SIMT_TSAN)
    target_compile_options(${name} PRIVATE -fno-sanitize=thread)
  else()
    target_compile_options(${name} PRIVATE ${simt_OPTIONS})
  endif()
endfunction()

# thimble_simt_sources(<target> file.cu... [OPTIONS flag...]): the target's kernels, compiled by the C++ compiler.
function(thimble_simt_sources target)
  cmake_parse_arguments(PARSE_ARGV 1 simt "" "" "OPTIONS")
  foreach(kernel IN LISTS simt_UNPARSED_ARGUMENTS)
    cmake_path(ABSOLUTE_PATH kernel NORMALIZE OUTPUT_VARIABLE kernel_path)
    cmake_path(GET kernel_path STEM stem)
    set(source ${CMAKE_CURRENT_BINARY_DIR}/simt_${target}/${stem}.cpp)
    file(CONFIGURE OUTPUT ${source} CONTENT "#include \"${kernel_path}\"\n")
    target_sources(${target} PRIVATE ${source})
    # Without contraction + - * / and square roots have a GPU's bits, if nvcc has -fmad=false. `unroll` is nvcc's.
    set_property(SOURCE ${source} PROPERTY COMPILE_OPTIONS -O2 -ffp-contract=off -Wno-unknown-pragmas ${simt_OPTIONS})
  endforeach()
endfunction()
