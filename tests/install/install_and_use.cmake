# Installs BUILD_DIR to a prefix of its own, moves that prefix (so that a path of this build would show), and builds and
# runs what uses it: a consumer of every library, one of the runtime alone, the examples, and one through pkg-config.
set(prefix ${WORK_DIR}/prefix)

function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE status OUTPUT_VARIABLE out ERROR_VARIABLE out)
  if(NOT status EQUAL 0)
    list(JOIN ARGN " " command)
    message(FATAL_ERROR "install: '${command}' ended with ${status}\n${out}")
  endif()
endfunction()

function(build_and_run name source)
  run(${CMAKE_COMMAND} -S ${source} -B ${WORK_DIR}/${name} -G ${GENERATOR} -D CMAKE_BUILD_TYPE=Release
      -D CMAKE_CXX_COMPILER=${CXX} -D CMAKE_CXX_FLAGS=${CXX_FLAGS} -D CMAKE_PREFIX_PATH=${prefix} ${ARGN})
  run(${CMAKE_COMMAND} --build ${WORK_DIR}/${name})
  file(GLOB programs ${WORK_DIR}/${name}/*)
  set(ran 0)
  foreach(program IN LISTS programs)
    execute_process(COMMAND test -f ${program} -a -x ${program} RESULT_VARIABLE is_no_program)
    if(is_no_program EQUAL 0)
      run(${CMAKE_COMMAND} -E chdir ${WORK_DIR}/${name} ${program})
      math(EXPR ran "${ran} + 1")
    endif()
  endforeach()
  if(ran EQUAL 0)
    message(FATAL_ERROR "install: ${source} built no program")
  endif()
  message(STATUS "${name}: built against the prefix, ${ran} program(s) ran")
endfunction()

file(REMOVE_RECURSE ${WORK_DIR})
run(${CMAKE_COMMAND} --install ${BUILD_DIR} --prefix ${WORK_DIR}/first)
file(RENAME ${WORK_DIR}/first ${prefix})

# No file of the package may name where it was built.
file(GLOB_RECURSE texts ${prefix}/${LIBDIR}/cmake/*.cmake ${prefix}/${LIBDIR}/pkgconfig/*.pc)
foreach(text IN LISTS texts)
  file(READ ${text} content)
  foreach(folder ${SOURCE_DIR} ${BUILD_DIR})
    string(FIND "${content}" "${folder}/" at)
    if(NOT at EQUAL -1)
      message(FATAL_ERROR "install: ${text} names ${folder}")
    endif()
  endforeach()
endforeach()

run(${prefix}/bin/thimble --version)
build_and_run(consumer ${SOURCE_DIR}/tests/install/consumer)
# The runtime alone: what ops would need is out of reach.
build_and_run(runtime_consumer ${SOURCE_DIR}/tests/install/runtime_consumer
              -D CMAKE_DISABLE_FIND_PACKAGE_dnnl=ON -D CMAKE_DISABLE_FIND_PACKAGE_TBB=ON
              -D CMAKE_DISABLE_FIND_PACKAGE_OpenMP=ON)
if(EXISTS ${SOURCE_DIR}/examples/04_your_trainer/CMakeLists.txt)
  build_and_run(your_trainer ${SOURCE_DIR}/examples/04_your_trainer)
endif()

if(NOT PKG_CONFIG)
  message(FATAL_ERROR "install: pkg-config is missing; run tools/install_packages")
endif()
set(ENV{PKG_CONFIG_PATH} ${prefix}/${LIBDIR}/pkgconfig)
execute_process(COMMAND ${PKG_CONFIG} --modversion thimble OUTPUT_VARIABLE version OUTPUT_STRIP_TRAILING_WHITESPACE
                COMMAND_ERROR_IS_FATAL ANY)
if(NOT version STREQUAL VERSION)
  message(FATAL_ERROR "install: pkg-config says version '${version}', not ${VERSION}")
endif()
execute_process(COMMAND ${PKG_CONFIG} --cflags --libs thimble OUTPUT_VARIABLE flags OUTPUT_STRIP_TRAILING_WHITESPACE
                COMMAND_ERROR_IS_FATAL ANY)
separate_arguments(flags UNIX_COMMAND "${flags}")
separate_arguments(own_flags UNIX_COMMAND "${CXX_FLAGS}")
run(${CXX} -std=c++20 ${own_flags} ${SOURCE_DIR}/tests/install/runtime_consumer/main.cpp ${flags}
    -o ${WORK_DIR}/pkg_config_consumer)
run(${WORK_DIR}/pkg_config_consumer)
message(STATUS "pkg-config: version ${version}, the program ran")
