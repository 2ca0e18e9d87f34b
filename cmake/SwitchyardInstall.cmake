include(CMakePackageConfigHelpers)
get_property(folders GLOBAL PROPERTY SWITCHYARD_FOLDERS)
foreach(folder IN LISTS folders)
  install(TARGETS switchyard_${folder} EXPORT switchyardTargets
          ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
  if(IS_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}/src/${folder}/include")
    install(DIRECTORY "src/${folder}/include/" DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
  endif()
endforeach()
if(TARGET switchyard_cli)
  install(TARGETS switchyard_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/switchyard")
install(EXPORT switchyardTargets NAMESPACE switchyard:: DESTINATION ${package_dir})
configure_package_config_file(cmake/switchyardConfig.cmake.in "${CMAKE_CURRENT_BINARY_DIR}/switchyardConfig.cmake"
                              INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file("${CMAKE_CURRENT_BINARY_DIR}/switchyardConfigVersion.cmake"
                                 COMPATIBILITY SameMinorVersion)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/switchyardConfig.cmake"
              "${CMAKE_CURRENT_BINARY_DIR}/switchyardConfigVersion.cmake" DESTINATION ${package_dir})
