# One CMake target and one include root a folder. A target sees the headers of its DEPS and of what those
# depend on, and nothing else, so an include against the arrows does not compile.

function(switchyard_compile_options target)
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wpedantic -Wconversion -Wshadow)
  if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    # GCC's -Wconversion leaves sign changes out for C++; keep the two compilers alike.
    target_compile_options(${target} PRIVATE -Wno-sign-conversion)
  endif()
  if(SWITCHYARD_WERROR)
    target_compile_options(${target} PRIVATE -Werror)
  endif()
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
    # SSE4.2 (2009) is the least we run on. Faster instruction sets are chosen at run time by Highway.
    target_compile_options(${target} PRIVATE -march=x86-64-v2)
  endif()
  # No contraction behind our back: a fused multiply-add happens only where a kernel asks for it, so the same
  # formula gives the same bits in every file.
  target_compile_options(${target} PRIVATE -ffp-contract=off)
  if(SWITCHYARD_SANITIZE)
    target_compile_options(${target} PRIVATE -fsanitize=${SWITCHYARD_SANITIZE} -fno-omit-frame-pointer
                                             -fno-sanitize-recover=all)
    target_link_options(${target} PUBLIC -fsanitize=${SWITCHYARD_SANITIZE})
  endif()
endfunction()

if(SWITCHYARD_SANITIZE MATCHES "thread")
  # oneTBB is not instrumented, and the half of it that lives in headers would be: a false alarm at every task. The one
  # file that includes it is left out, and tells the sanitizer itself how tasks are ordered.
  set_source_files_properties(src/base/parallel.cpp PROPERTIES COMPILE_OPTIONS "-fno-sanitize=thread;-DSWITCHYARD_TSAN")
endif()

# switchyard_folder(NAME DEPS public... [PRIVATE private...]): the library of src/NAME.
function(switchyard_folder name)
  cmake_parse_arguments(ARG "" "" "DEPS;PRIVATE" ${ARGN})
  set(dir "${CMAKE_CURRENT_SOURCE_DIR}/src/${name}")
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS "${dir}/*.cpp")
  set(target switchyard_${name})
  if(sources)
    add_library(${target} STATIC ${sources})
    target_include_directories(${target} PUBLIC "$<BUILD_INTERFACE:${dir}/include>"
                                                "$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>"
                                         PRIVATE "${dir}")
    target_compile_features(${target} PUBLIC cxx_std_20)
    target_link_libraries(${target} PUBLIC ${ARG_DEPS} PRIVATE ${ARG_PRIVATE})
    switchyard_compile_options(${target})
  else()
    add_library(${target} INTERFACE)
    target_include_directories(${target} INTERFACE "$<BUILD_INTERFACE:${dir}/include>"
                                                   "$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>")
    target_link_libraries(${target} INTERFACE ${ARG_DEPS})
  endif()
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${name})
  add_library(switchyard::${name} ALIAS ${target})
  set_property(GLOBAL APPEND PROPERTY SWITCHYARD_FOLDERS ${name})
endfunction()

# switchyard_program(NAME OUTPUT file DEPS ...): the executable of src/NAME.
function(switchyard_program name)
  cmake_parse_arguments(ARG "" "OUTPUT" "DEPS" ${ARGN})
  set(dir "${CMAKE_CURRENT_SOURCE_DIR}/src/${name}")
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS "${dir}/*.cpp")
  if(NOT sources)
    return()
  endif()
  set(target switchyard_${name})
  add_executable(${target} ${sources})
  set_target_properties(${target} PROPERTIES OUTPUT_NAME ${ARG_OUTPUT})
  target_include_directories(${target} PRIVATE "${dir}" "${dir}/include")
  target_link_libraries(${target} PRIVATE ${ARG_DEPS})
  target_compile_definitions(${target} PRIVATE SWITCHYARD_VERSION="${PROJECT_VERSION}")
  switchyard_compile_options(${target})
endfunction()
