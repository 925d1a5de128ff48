// OHIF's configuration for a node on the same address; see docs/how-to/ohif.md.
window.config = {
  routerBasename: '/',
  extensions: [],
  modes: [],
  showStudyList: true,
  showWarningMessageForCrossOrigin: false,
  showLoadingIndicator: true,
  investigationalUseDialog: { option: 'always' },
  disableConfirmationPrompts: true,
  defaultDataSourceName: 'hounsfield',
  dataSources: [
    {
      namespace: '@ohif/extension-default.dataSourcesModule.dicomweb',
      sourceName: 'hounsfield',
      configuration: {
        friendlyName: 'hounsfield',
        name: 'hounsfield',
        qidoRoot: '/dicom-web',
        wadoRoot: '/dicom-web',
        wadoUriRoot: '/dicom-web',
        qidoSupportsIncludeField: true,
        supportsReject: false,
        supportsFuzzyMatching: false,
        supportsWildcard: true,
        supportsStow: false,
        imageRendering: 'wadors',
        thumbnailRendering: 'thumbnailDirect',
        enableStudyLazyLoad: true,
        dicomUploadEnabled: false,
        omitQuotationForMultipartRequest: true,
        bulkDataURI: { enabled: true, relativeResolution: 'studies' },
      },
    },
  ],
  // Nobody is logged in, or no longer: go to the node's log-in, and come back.
  httpErrorHandler: error => {
    if (error.status === 401) {
      window.location.assign('/login?target=' + encodeURIComponent(location.pathname + location.search));
    }
  },
};
